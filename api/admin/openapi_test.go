package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/prometheus/client_golang/prometheus"
)

func loadContract(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(contract)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatalf("openapi.yaml: %v", err)
	}
	return doc
}

// [O3]
func TestContract_HasEveryRouteAndNoOther(t *testing.T) {
	said := map[string]bool{}
	for path, item := range loadContract(t).Paths.Map() {
		for method, op := range item.Operations() {
			said[method+" "+path] = true
			if strings.HasPrefix(path, "/v1/admin/") && op.Security != nil {
				t.Errorf("%s %s says who may, which is operators, as all below /v1/admin/", method, path)
			}
		}
	}
	s, _ := newServer(t, Config{})
	served := map[string]bool{}
	for _, r := range s.routes() {
		served[r.pattern] = true
	}
	for _, r := range slices.Sorted(maps.Keys(served)) {
		if !said[r] {
			t.Errorf("%s is served and not in openapi.yaml", r)
		}
	}
	for _, r := range slices.Sorted(maps.Keys(said)) {
		if !served[r] {
			t.Errorf("%s is in openapi.yaml and not served", r)
		}
	}
}

// [O1] on every route that there is and that there will be.
func TestRoutes_BelowV1AskForTheToken(t *testing.T) {
	s, _ := newServer(t, Config{Token: token})
	for _, r := range s.routes() {
		method, path, _ := strings.Cut(r.pattern, " ")
		if !strings.HasPrefix(path, "/v1/") {
			continue
		}
		if w := do(s, method, path, nil); w.Code != http.StatusUnauthorized {
			t.Errorf("%s without the token: %d", r.pattern, w.Code)
		}
		if w := do(s, method, path, map[string]string{"Authorization": "Bearer " + token}); w.Code == http.StatusUnauthorized {
			t.Errorf("%s with the token: %d", r.pattern, w.Code)
		}
	}
}

func TestRoutes_WhatThisProcessDoesNotHaveIsNotFound(t *testing.T) {
	s, err := NewServer(Config{}, Deps{Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range s.routes() {
		if method, path, _ := strings.Cut(r.pattern, " "); strings.HasPrefix(path, "/v1/") {
			if w := do(s, method, path, nil); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), `"not_found"`) {
				t.Errorf("%s: %d %s", r.pattern, w.Code, w.Body)
			}
		}
	}
}

// ask sends a request with a body and holds request and answer to the contract; a
// request that is refused need not keep to it.
func ask(t *testing.T, s *Server, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	build := func() *http.Request {
		r := httptest.NewRequest(method, "http://127.0.0.1:8070"+path, strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		return r
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, build())

	router, err := gorillamux.NewRouter(loadContract(t))
	if err != nil {
		t.Fatal(err)
	}
	r := build()
	found, params, err := router.FindRoute(r)
	if errors.Is(err, routers.ErrPathNotFound) || errors.Is(err, routers.ErrMethodNotAllowed) {
		t.Fatalf("%s %s is not in openapi.yaml", method, path)
	} else if err != nil {
		t.Fatal(err)
	}
	in := &openapi3filter.RequestValidationInput{
		Request: r, Route: found, PathParams: params,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if err := openapi3filter.ValidateRequest(t.Context(), in); err != nil && w.Code < 300 {
		t.Errorf("%s %s succeeds and breaks the contract: %v", method, path, err)
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: w.Code, Header: w.Header(),
		Body:    io.NopCloser(bytes.NewReader(w.Body.Bytes())),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(t.Context(), out); err != nil {
		t.Errorf("%s %s: the answer breaks the contract: %v\n%s", method, path, err, w.Body)
	}
	return w
}
