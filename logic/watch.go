package logic

import (
	"context"
	"log/slog"
	"os"
	"time"
)

// watchInterval is how soon a changed file is noticed. Asking each time works on
// every file system, and where a secret is swapped by a symbolic link.
const watchInterval = 5 * time.Second

// fileStamp tells two contents of a file apart without reading it.
type fileStamp struct {
	modified time.Time
	size     int64
	info     os.FileInfo // to tell another file at the same path
}

func stampOf(path string) fileStamp {
	fi, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{fi.ModTime(), fi.Size(), fi}
}

func (s fileStamp) same(o fileStamp) bool {
	return s.modified.Equal(o.modified) && s.size == o.size &&
		(s.info == nil) == (o.info == nil) && (s.info == nil || os.SameFile(s.info, o.info))
}

// watchFile calls reload each time the file at path is another than it was at last,
// until ctx ends. A reload that fails is logged once per content and keeps what was.
func watchFile(ctx context.Context, path string, last fileStamp, reload func() error, log *slog.Logger) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := stampOf(path)
		if now.same(last) {
			continue
		}
		last = now
		if err := reload(); err != nil {
			log.Error("changed file is not used, the old content stays", "file", path, "err", err)
			continue
		}
		log.Info("file read again", "file", path)
	}
}
