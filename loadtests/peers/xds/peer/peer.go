// Package peer is what the programs of this benchmark share.
package peer

import (
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"google.golang.org/grpc/mem"
)

// Types of what is served.
const (
	CDSType = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EDSType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
)

// RawCodec passes the bytes of messages through, as *[]byte. What is received
// goes into the memory of the slice that it is received into.
type RawCodec struct{}

// Name is that of the codec it stands for.
func (RawCodec) Name() string { return "proto" }

// Marshal gives the bytes themselves.
func (RawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

// Unmarshal copies the message.
func (RawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	out := v.(*[]byte)
	*out = slices.Grow((*out)[:0], data.Len())[:data.Len()]
	data.CopyTo(*out)
	return nil
}

// Stats are the processor time that this process has used, and its memory now.
func Stats() map[string]any {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		log.Fatal(err)
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	rss := 0
	if data, err := os.ReadFile("/proc/self/statm"); err == nil {
		if pages, err := strconv.Atoi(strings.Fields(string(data))[1]); err == nil {
			rss = pages * os.Getpagesize() / (1 << 20)
		}
	}
	return map[string]any{"cpu_s": seconds(ru.Utime) + seconds(ru.Stime), "rss_mb": rss}
}
