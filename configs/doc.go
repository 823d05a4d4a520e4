// Package configs gathers each package's Config into one, fills it from a profile, a
// file, the environment and flags, in this order, and validates it once. Only main
// imports it.
package configs
