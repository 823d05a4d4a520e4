package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/scripts/devtest"
	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// balancer is a running nginx with the project's configuration, on loopback.
type balancer struct {
	http, socket string // without TLS, for tests
	https        string
	cert         *x509.CertPool
}

// startNginx puts nginx in front of two connectors and two api processes (host:port).
func startNginx(t *testing.T, s *devtest.Stack, sockets, faces [2]string) *balancer {
	t.Helper()
	path := nginxPath()
	if path == "" {
		t.Skip("no nginx: scripts/services tools installs it on Debian")
	}
	dir, plain, secure := t.TempDir(), ports.Free(t), ports.Free(t)
	b := &balancer{http: "http://" + plain, socket: "ws://" + plain + "/v1/ws", https: "https://" + secure}
	b.cert = selfSigned(t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))

	conf, err := os.ReadFile("configs/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		"10.0.0.21:8090": sockets[0], "10.0.0.22:8090": sockets[1],
		"10.0.0.11:8080": faces[0], "10.0.0.12:8080": faces[1],
		"listen 80;":                    "listen " + ports.Free(t) + ";",
		"listen 443 ssl http2;":         "listen " + secure + " ssl http2; listen " + plain + ";",
		"/etc/ssl/curlew/fullchain.pem": filepath.Join(dir, "cert.pem"),
		"/etc/ssl/curlew/key.pem":       filepath.Join(dir, "key.pem"),
	} {
		if bytes.Count(conf, []byte(from)) != 1 {
			t.Fatalf("configs/nginx.conf says %q not once", from)
		}
		conf = bytes.ReplaceAll(conf, []byte(from), []byte(to))
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // its workers may read this test's folder
	}
	around := fmt.Sprintf(`%sworker_processes 2;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	include curlew.conf;
}
`, user)
	for name, text := range map[string]string{"nginx.conf": around, "curlew.conf": string(conf)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(path, "-e", "stderr", "-p", dir, "-c", "nginx.conf", "-g", "daemon off;")
	cmd.Stderr = s.LogWriter()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // told to
	})
	devtest.Eventually(t, "nginx answers", func() bool { return answers(b.http + "/health") })
	return b
}

// nginxPath is where nginx is; Debian has it where only root looks.
func nginxPath() string {
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// selfSigned writes a certificate for 127.0.0.1.
func selfSigned(t *testing.T, certFile, keyFile string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		text := pem.EncodeToMemory(block)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		pool.AppendCertsFromPEM(text)
	}
	return pool
}

// metric is the value of a metric without labels at an operator's address; "" where it
// cannot be had.
func metric(admin, name string) string {
	c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(admin + "/metrics")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		if value, ok := strings.CutPrefix(sc.Text(), name+" "); ok {
			return value
		}
	}
	return ""
}

// Everybody is behind nginx, over two connectors and two api processes. Either
// connector dies, and either api process ends: who was there comes back through the
// other, and nothing is lost.
func TestNginx_ConnectorsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	if nginxPath() == "" {
		t.Skip("no nginx: scripts/services tools installs it on Debian")
	}
	s := devtest.Start(t)
	between := bridge(ports.Free(t))
	between.engine(t, s, configs.RoleLogic, configs.RoleJobs)
	face := func(at string) *engine {
		return startEngine(t, s, roles(configs.RoleAPI), func(c *configs.Config) {
			c.API.Listen, c.API.TrustedProxies = at, []string{"127.0.0.1"}
		})
	}
	sockets := func() *child {
		return between.connector(t, s, map[string]string{"connector.trusted_proxies": "127.0.0.1"})
	}
	ports := [2]string{ports.Free(t), ports.Free(t)}
	faces, nodes := [2]*engine{face(ports[0]), face(ports[1])}, [2]*child{sockets(), sockets()}
	b := startNginx(t, s, [2]string{nodes[0].settings["connector.listen"], nodes[1].settings["connector.listen"]}, ports)

	l := startLoad(t, b.http, b.socket)
	held := func(c *child) string {
		return metric("http://"+c.settings["admin.listen"], "curlew_connector_sessions")
	}
	devtest.Eventually(t, "each connector holds somebody", func() bool { return held(nodes[0]) > "0" && held(nodes[1]) > "0" })
	for i, dies := range nodes {
		l.more(100)
		dies.kill()
		devtest.Eventually(t, "everybody is back, at the other connector", func() bool { return held(nodes[1-i]) == fmt.Sprint(len(l.devices)) })
		l.recovered(fmt.Sprint("after the death of connector ", i))
		dies.start()
		faces[i].stop()
		l.recovered(fmt.Sprint("without api ", i))
		faces[i] = face(ports[i])
	}
	l.more(100)
	l.finish()
	l.check(false)
}

// Through nginx the connector's and the api's limits count the client's own address,
// not nginx's, nor what the client says of itself; and TLS ends at nginx.
func TestNginx_ClientsAddressCounts(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s, func(c *configs.Config) {
		c.Connector.TrustedProxies, c.Connector.ConnectionsPerIP, c.Connector.AuthTimeout = []string{"127.0.0.1"}, 1, time.Minute
		c.API.TrustedProxies = []string{"127.0.0.1"}
	})
	socket := strings.TrimSuffix(strings.TrimPrefix(e.socket, "ws://"), "/v1/ws")
	face := strings.TrimPrefix(e.http, "http://")
	b := startNginx(t, s, [2]string{socket, socket}, [2]string{face, face})

	dial := func(url, from string, forwarded ...string) error {
		d := ws.Dialer{
			Timeout: 10 * time.Second, TLSConfig: &tls.Config{RootCAs: b.cert},
			Header: ws.HandshakeHeaderHTTP{"X-Forwarded-For": forwarded},
			NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				nd := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
				return nd.DialContext(ctx, network, addr)
			},
		}
		c, _, _, err := d.Dial(t.Context(), url)
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return err
	}
	secure := "wss" + strings.TrimPrefix(b.https, "https") + "/v1/ws"
	for _, try := range []struct {
		what, url, from, forwarded string
		refused                    bool
	}{
		{"the first of an address", b.socket, "127.0.0.2", "", false},
		{"its second", b.socket, "127.0.0.2", "", true},
		{"its second, said to be another's", b.socket, "127.0.0.2", "203.0.113.9", true},
		{"the first of another address, over TLS", secure, "127.0.0.3", "", false},
		{"its second, over TLS", secure, "127.0.0.3", "203.0.113.9, 203.0.113.8", true},
	} {
		var forwarded []string
		if try.forwarded != "" {
			forwarded = []string{try.forwarded}
		}
		err := dial(try.url, try.from, forwarded...)
		var status ws.StatusError
		if refused := err != nil; refused != try.refused || refused && (!errors.As(err, &status) || int(status) != http.StatusServiceUnavailable) {
			t.Errorf("%s: %v", try.what, err)
		}
	}

	page := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: b.cert}, DisableKeepAlives: true}}
	resp, err := page.Get(b.https + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte("<html")) {
		t.Errorf("the page over TLS: %d %v", resp.StatusCode, err)
	}
}
