// Package admin is the operator's listener: health, readiness, metrics, profiles
// and the switches that belong in no user's hand. It has an address of its own, so
// that none of it is reachable where users are.
//
//	[O1] what changes something asks for the token, or, where none is set, for a
//	     request from this machine that no web page can make
//	     where others reach the listener, metrics ask for the token too
//	[O2] readiness names what is away, and nothing of where it is
//	[O3] openapi.yaml, served at /openapi.yaml, says all that the routes do
package admin
