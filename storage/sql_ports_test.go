package storage

import (
	"github.com/curlew-im/curlew/jobs"
	"github.com/curlew-im/curlew/logic"
)

var (
	_ logic.Accounts = (*DB)(nil)
	_ logic.Records  = (*DB)(nil)
	_ jobs.Archive   = (*DB)(nil)
	_ jobs.Nodes     = (*DB)(nil)
)
