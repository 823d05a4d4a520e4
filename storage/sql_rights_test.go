package storage

import (
	"slices"
	"testing"
)

func TestExcess_IsWhatTheEngineNeverDoes(t *testing.T) {
	for grant, want := range map[string][]string{
		"GRANT USAGE ON *.* TO `curlew`@`127.0.0.1` IDENTIFIED BY PASSWORD '*0'":           nil,
		"GRANT SELECT, INSERT, UPDATE, DELETE ON `curlew%`.* TO `curlew`@`127.0.0.1`":      nil,
		"GRANT SELECT (id, handle), UPDATE (nickname) ON `curlew`.`users` TO `curlew`@`%`": nil,
		"GRANT `reader`@`%` TO `curlew`@`%`":                                               nil,
		"GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION":              {"ALL PRIVILEGES", "GRANT OPTION"},
		"GRANT SELECT, CREATE, DROP, ALTER ON `curlew`.* TO `curlew`@`%`":                  {"CREATE", "DROP", "ALTER"},
		"GRANT PROCESS, READ_ONLY ADMIN ON *.* TO `curlew`@`%`":                            {"PROCESS", "READ_ONLY ADMIN"},
		"GRANT SELECT, FILE ON *.* TO `curlew`@`%` WITH GRANT OPTION":                      {"FILE", "GRANT OPTION"},
	} {
		if got := excess(grant); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", grant, got, want)
		}
	}
}
