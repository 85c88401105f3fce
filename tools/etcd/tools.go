//go:build tools

// Package tools pins the etcd that keeps the state of the real API servers in tests.
package tools

import _ "go.etcd.io/etcd/server/v3"
