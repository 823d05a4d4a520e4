package api

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
)

// The page is plain files, served as they are.
//
//go:embed web
var webFiles embed.FS

//go:embed openapi.yaml asyncapi.yaml
var contracts embed.FS

// mediaTypes are the files that are served; others in the folder are not.
var mediaTypes = map[string]string{
	".html":        "text/html; charset=utf-8",
	".css":         "text/css; charset=utf-8",
	".js":          "text/javascript; charset=utf-8",
	".svg":         "image/svg+xml",
	".png":         "image/png",
	".ico":         "image/x-icon",
	".webmanifest": "application/manifest+json",
	".txt":         "text/plain; charset=utf-8",
	".yaml":        "application/yaml",
}

// webRoutes serves the page at /, one route per file known at build time, so that
// no path from outside is ever looked up in a file system.
func (s *Server) webRoutes() error {
	socket, err := url.Parse(s.cfg.SocketURL)
	if err != nil {
		return fmt.Errorf("api.socket_url: %w", err)
	}
	// Scripts, styles and images of this origin only; avatars of other hosts would tell
	// those hosts who looks at them.
	policy := "default-src 'self'; img-src 'self' data:; connect-src 'self' " + socket.Scheme + "://" + socket.Host +
		"; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	page, err := fs.Sub(webFiles, "web")
	if err != nil {
		return err
	}
	for _, files := range []fs.FS{page, contracts} {
		err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
			media := mediaTypes[path.Ext(name)]
			if err != nil || d.IsDir() || media == "" {
				return err
			}
			content, err := fs.ReadFile(files, name)
			if err != nil {
				return err
			}
			h := serveFile(content, media, policy)
			route := "/" + name
			if name == "index.html" {
				route = "/"
			}
			s.engine.GET(route, h)
			s.engine.HEAD(route, h)
			return nil
		})
		if err != nil {
			return fmt.Errorf("page: %w", err)
		}
	}
	s.engine.GET("/config.json", s.pageConfig)
	return nil
}

func serveFile(content []byte, media, policy string) gin.HandlerFunc {
	sum := sha256.Sum256(content)
	etag := `"` + hex.EncodeToString(sum[:8]) + `"`
	return func(c *gin.Context) {
		h := c.Writer.Header()
		h.Set("Content-Type", media)
		h.Set("Content-Security-Policy", policy)
		h.Set("ETag", etag)
		h.Set("Cache-Control", "no-cache") // kept, but asked about each time: a new binary is a new page
		http.ServeContent(c.Writer, c.Request, "", time.Time{}, bytes.NewReader(content))
	}
}

func (s *Server) pageConfig(c *gin.Context) {
	s.write(c, http.StatusOK, protocol.PageConfig{Socket: s.cfg.SocketURL, Demo: s.cfg.Demo})
}
