package admin

import (
	_ "embed"
	"net/http"
)

//go:embed openapi.yaml
var contract []byte

// handleContract serves the description of this listener ([O3]).
func handleContract(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(contract) // the operator has hung up
}
