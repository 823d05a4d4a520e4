package protocol

import "testing"

func TestCarriesToken(t *testing.T) {
	for query, want := range map[string]bool{
		"": false, "v=1": false, "before_seq=7&limit=50": false, "handle=eyJon": false, "x=a.b.c": false, "a=%zz": false,
		"token=x": true, "TOKEN": true, "a=b&access_token=x": true, "access%5Ftoken=x": true, "jwt=x": true, "Authorization=x": true,
		"bearer=x": true, "auth=x": true, "author=x": false, "t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.c2ln": true,
		"t=Bearer%20eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.": true, "%74oken=x": true,
	} {
		if got := CarriesToken(query); got != want {
			t.Errorf("%q: %v", query, got)
		}
	}
}
