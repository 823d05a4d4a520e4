// Package api is the HTTP face of Curlew: routes, who may call them, bodies and
// statuses, and the page. It decides nothing about chat; logic does.
//
//	[A1] every answer that is not a success is a protocol.Error with a request ID;
//	     no cause, name or address from inside is in it
//	[A2] no answer takes longer than Config.RequestTimeout, the transfer of the body
//	     aside
//	[A3] nothing unbounded is read: header, body, depth, page, requests in flight
//	[A4] a token is taken from the Authorization header and from nowhere else
//	[A5] no path has a second spelling: escapes, dot segments, doubled and trailing
//	     slashes name nothing
//	[A6] openapi.yaml and asyncapi.yaml say all that the routes and frames do
package api
