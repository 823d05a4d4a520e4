package storage_test

import (
	"github.com/curlew-im/curlew/connector"
	"github.com/curlew-im/curlew/jobs"
	"github.com/curlew-im/curlew/logic"
	"github.com/curlew-im/curlew/storage"
)

var (
	_ logic.Index           = (*storage.Index)(nil)
	_ logic.Settings        = (*storage.Settings)(nil)
	_ logic.Profiles        = (*storage.Profiles)(nil)
	_ logic.Hints           = (*storage.Hints)(nil)
	_ logic.Limits          = (*storage.Limits)(nil)
	_ logic.Sessions        = (*storage.Routes)(nil)
	_ logic.Rooms           = (*storage.Routes)(nil)
	_ logic.Bus             = (*storage.Bus)(nil)
	_ jobs.Projector        = (*storage.Projector)(nil)
	_ jobs.Sessions         = (*storage.Routes)(nil)
	_ jobs.Rooms            = (*storage.Routes)(nil)
	_ jobs.Bus              = (*storage.Bus)(nil)
	_ connector.Routes      = (*storage.Routes)(nil)
	_ connector.Bus         = (*storage.Bus)(nil)
	_ connector.Generations = (*storage.Redis)(nil)
)
