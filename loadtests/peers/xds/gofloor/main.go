// Command gofloor is the lower bound for a Go server in this benchmark: grpc-go
// streams of shared, already encoded responses and no cache at all. It answers
// the first request of a type with everything and ignores acknowledgements.
// Load assignments are filler of the real size. Commands: see loadtests/xdspeers.py.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"

	"isthmus.dev/loadtests/peers/xds/peer"
)

func field(b []byte, num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

// resourceBytes encodes a resource as an entry of either kind of response.
func resourceBytes(typeURL, name string, value []byte, delta bool) []byte {
	packed := field(field(nil, 1, []byte(typeURL)), 2, value)
	if delta {
		packed = field(field(field(nil, 1, []byte("v")), 2, packed), 3, []byte(name))
	}
	return field(nil, 2, packed)
}

func response(typeURL string, resources []byte, nonce int) []byte {
	b := append(field(nil, 1, []byte("1")), resources...)
	b = field(b, 4, []byte(typeURL))
	return field(b, 5, []byte(strconv.Itoa(nonce)))
}

// assignment has the size of a real load assignment and the name where the fleet looks for it.
func assignment(name string, endpoints int) []byte {
	return field(field(nil, 1, []byte(name)), 2, bytes.Repeat([]byte("x"), endpoints*30))
}

type hub struct {
	mu      sync.Mutex
	streams [2]map[chan []byte]bool
	full    [2]map[string][]byte
}

func (h *hub) serve(delta int) grpc.StreamHandler {
	return func(_ any, stream grpc.ServerStream) error {
		out := make(chan []byte, 1024)
		h.mu.Lock()
		h.streams[delta][out] = true
		h.mu.Unlock()
		go func() {
			answered := map[string]bool{}
			for {
				var msg []byte
				if stream.RecvMsg(&msg) != nil {
					h.mu.Lock()
					delete(h.streams[delta], out)
					close(out)
					h.mu.Unlock()
					return
				}
				for _, t := range []string{peer.CDSType, peer.EDSType} {
					if !answered[t] && bytes.Contains(msg, []byte(t)) {
						answered[t] = true
						out <- h.full[delta][t]
					}
				}
			}
		}()
		for msg := range out {
			if err := stream.SendMsg(&msg); err != nil {
				return err
			}
		}
		return nil
	}
}

func main() {
	services := flag.Int("services", 1000, "number of clusters")
	endpoints := flag.Int("endpoints", 20, "endpoints of each cluster")
	flag.Parse()
	h := &hub{}
	name := func(i int) string { return fmt.Sprintf("svc-%04d", i) }
	for delta := range 2 {
		var cds, eds []byte
		for i := range *services {
			cds = append(cds, resourceBytes(peer.CDSType, name(i), field(nil, 1, []byte(name(i))), delta == 1)...)
			eds = append(eds, resourceBytes(peer.EDSType, name(i), assignment(name(i), *endpoints), delta == 1)...)
		}
		h.streams[delta] = map[chan []byte]bool{}
		h.full[delta] = map[string][]byte{peer.CDSType: response(peer.CDSType, cds, 1), peer.EDSType: response(peer.EDSType, eds, 1)}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(peer.RawCodec{}), grpc.MaxConcurrentStreams(1_000_000))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "envoy.service.discovery.v3.AggregatedDiscoveryService",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "StreamAggregatedResources", Handler: h.serve(0), ServerStreams: true, ClientStreams: true},
			{StreamName: "DeltaAggregatedResources", Handler: h.serve(1), ServerStreams: true, ClientStreams: true},
		},
	}, context.Background())
	go func() { log.Fatal(server.Serve(listener)) }()

	reply := json.NewEncoder(os.Stdout)
	_ = reply.Encode(map[string]any{"addr": listener.Addr().String(), "pid": os.Getpid()})
	nonce := 1
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if words[0] == "flip" {
			i, _ := strconv.Atoi(words[1])
			nonce++
			h.mu.Lock()
			for delta := range 2 {
				msg := response(peer.EDSType, resourceBytes(peer.EDSType, name(i), assignment(name(i), *endpoints), delta == 1), nonce)
				for out := range h.streams[delta] {
					out <- msg
				}
			}
			h.mu.Unlock()
			_ = reply.Encode(map[string]any{"flipped": name(i)})
			continue
		}
		_ = reply.Encode(peer.Stats())
	}
}
