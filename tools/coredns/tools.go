//go:build tools

// Package tools pins the CoreDNS that our DNS is compared with in tests and benchmarks.
package tools

import _ "github.com/coredns/coredns"
