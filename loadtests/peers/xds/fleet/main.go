// Command fleet opens many ADS streams and measures what they receive.
//
// Each stream has its own TCP connection and behaves like an Envoy: wildcard
// CDS, then EDS by name, every response acknowledged. Messages are scanned, not
// decoded, so that the fleet costs little beside the server under test.
//
// Commands on stdin, one JSON line each on stdout:
//
//	start            open all streams; answers when every stream has all endpoints
//	arm <name>       start to watch for the next EDS response that carries <name>
//	wait <t0> <s>    wait at most <s> seconds for it on all streams; latencies are from <t0> (Unix ns)
//	stats            CPU time and RSS of the fleet itself
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"

	"isthmus.dev/loadtests/peers/xds/peer"
)

const service = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"

// response is the part of a DiscoveryResponse or DeltaDiscoveryResponse that a
// client must look at. Field numbers agree between the two messages.
type response struct {
	version, typeURL, nonce string
	resources               [][]byte
}

func parse(msg []byte) response {
	var r response
	eachField(msg, func(num protowire.Number, value []byte) {
		switch num {
		case 1:
			r.version = string(value)
		case 2:
			r.resources = append(r.resources, value)
		case 4:
			r.typeURL = string(value)
		case 5:
			r.nonce = string(value)
		}
	})
	return r
}

// eachField visits the length-delimited fields of a message.
func eachField(msg []byte, visit func(protowire.Number, []byte)) {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			log.Fatal(protowire.ParseError(n))
		}
		msg = msg[n:]
		if typ == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(msg)
			visit(num, value)
		}
		n = protowire.ConsumeFieldValue(num, typ, msg)
		if n < 0 {
			log.Fatal(protowire.ParseError(n))
		}
		msg = msg[n:]
	}
}

// field returns the last length-delimited field with that number.
func field(msg []byte, want protowire.Number) (found []byte) {
	eachField(msg, func(num protowire.Number, value []byte) {
		if num == want {
			found = value
		}
	})
	return found
}

// clusterName reads the name out of one resource of a CDS response.
func clusterName(resource []byte, delta bool) []byte {
	if delta {
		return field(resource, 3) // Resource.name
	}
	return field(field(resource, 2), 1) // Any.value, Cluster.name
}

func appendString(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

// fleet is the shared state of all streams.
type fleet struct {
	addr     string
	delta    bool
	tls      *tls.Config
	services int

	names  atomic.Pointer[[]byte] // encoded EDS resource names, shared by all streams
	synced sync.WaitGroup

	watched  atomic.Pointer[[]byte] // name of the flipped service while armed
	epoch    atomic.Int64
	receipts chan int64 // Unix ns
	bytes    atomic.Int64
	messages atomic.Int64
}

// encodeNames builds the subscription once and shares it while it is the same.
func (f *fleet) encodeNames(resources [][]byte) []byte {
	num := protowire.Number(3) // DiscoveryRequest.resource_names, DeltaDiscoveryRequest.resource_names_subscribe
	var b []byte
	for _, r := range resources {
		b = protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), clusterName(r, f.delta))
	}
	if shared := f.names.Load(); shared != nil && bytes.Equal(*shared, b) {
		return *shared
	}
	f.names.Store(&b)
	return b
}

// request encodes a DiscoveryRequest or DeltaDiscoveryRequest.
func (f *fleet) request(node, typeURL, version, nonce string, names []byte) []byte {
	var b, id []byte
	if node != "" {
		id = appendString(appendString(nil, 1, node), 2, "bench")
	}
	if f.delta { // node=1, type_url=2, subscribe=3, response_nonce=6
		if id != nil {
			b = protowire.AppendBytes(protowire.AppendTag(b, 1, protowire.BytesType), id)
		}
		b = appendString(b, 2, typeURL)
		b = append(b, names...)
		return appendString(b, 6, nonce)
	}
	b = appendString(b, 1, version) // version_info=1, node=2, names=3, type_url=4, response_nonce=5
	if id != nil {
		b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), id)
	}
	b = append(b, names...)
	b = appendString(b, 4, typeURL)
	return appendString(b, 5, nonce)
}

func (f *fleet) run(i int) error {
	creds := insecure.NewCredentials()
	if f.tls != nil {
		creds = credentials.NewTLS(f.tls)
	}
	conn, err := grpc.NewClient("passthrough:///"+f.addr,
		grpc.WithTransportCredentials(creds),
		grpc.WithInitialWindowSize(16<<20), grpc.WithInitialConnWindowSize(24<<20), // as Envoy
		grpc.WithSharedWriteBuffer(true),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(peer.RawCodec{}), grpc.MaxCallRecvMsgSize(256<<20)))
	if err != nil {
		return err
	}
	method := service + "StreamAggregatedResources"
	if f.delta {
		method = service + "DeltaAggregatedResources"
	}
	stream, err := conn.NewStream(context.Background(),
		&grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	send := func(b []byte) error { return stream.SendMsg(&b) }
	if err := send(f.request(fmt.Sprintf("node-%05d.bench", i), peer.CDSType, "", "", nil)); err != nil {
		return err
	}
	var names, msg []byte
	received, seen := 0, int64(0)
	for {
		if err := stream.RecvMsg(&msg); err != nil {
			return err
		}
		now := time.Now().UnixNano()
		f.bytes.Add(int64(len(msg)))
		f.messages.Add(1)
		r := parse(msg)
		switch r.typeURL {
		case peer.CDSType:
			if err := send(f.request("", peer.CDSType, r.version, r.nonce, nil)); err != nil {
				return err
			}
			if names == nil {
				names = f.encodeNames(r.resources)
				if err := send(f.request("", peer.EDSType, "", "", names)); err != nil {
					return err
				}
			}
		case peer.EDSType:
			if epoch := f.epoch.Load(); seen != epoch {
				if name := f.watched.Load(); name != nil && bytes.Contains(msg, *name) {
					seen = epoch
					f.receipts <- now
				}
			}
			ackNames := names
			if f.delta {
				ackNames = nil
			}
			if err := send(f.request("", peer.EDSType, r.version, r.nonce, ackNames)); err != nil {
				return err
			}
			if received < f.services {
				if received += len(r.resources); received >= f.services {
					f.synced.Done()
					if cap(msg) > 1<<16 {
						msg = nil // an idle stream keeps no large buffer
					}
				}
			}
		}
	}
}

// mutual reads the files CERT,KEY,CA of a client.
func mutual(files string) *tls.Config {
	names := strings.Split(files, ",")
	pair, err := tls.LoadX509KeyPair(names[0], names[1])
	if err != nil {
		log.Fatal(err)
	}
	authorities, err := os.ReadFile(names[2])
	if err != nil {
		log.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authorities)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ServerName: "localhost"}
}

func main() {
	f := &fleet{}
	streams := flag.Int("streams", 100, "number of ADS streams")
	flag.StringVar(&f.addr, "addr", "", "server address")
	flag.BoolVar(&f.delta, "delta", false, "Delta instead of state of the world")
	mtls := flag.String("tls", "", "use mTLS with CERT,KEY,CA; the server is localhost")
	flag.IntVar(&f.services, "services", 1000, "services expected from the server")
	flag.Parse()
	if *mtls != "" {
		f.tls = mutual(*mtls)
	}
	f.receipts = make(chan int64, *streams)

	reply := json.NewEncoder(os.Stdout)
	answer := func(v map[string]any) {
		if err := reply.Encode(v); err != nil {
			log.Fatal(err)
		}
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "start":
			begin := time.Now()
			f.synced.Add(*streams)
			for i := range *streams {
				go func() { log.Fatalf("stream %d: %v", i, f.run(i)) }()
			}
			f.synced.Wait()
			answer(map[string]any{"sync_s": time.Since(begin).Seconds(), "bytes": f.bytes.Load(),
				"messages": f.messages.Load(), "fleet_cpu_s": peer.Stats()["cpu_s"]})
		case "arm":
			name := []byte(words[1])
			f.bytes.Store(0)
			f.messages.Store(0)
			f.watched.Store(&name)
			f.epoch.Add(1)
			answer(map[string]any{"armed": words[1]})
		case "wait":
			t0, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				log.Fatal(err)
			}
			seconds, err := strconv.ParseFloat(words[2], 64)
			if err != nil {
				log.Fatal(err)
			}
			deadline := time.After(time.Duration(seconds * float64(time.Second)))
			var ms []float64
		collect:
			for len(ms) < *streams {
				select {
				case t := <-f.receipts:
					ms = append(ms, float64(t-t0)/1e6)
				case <-deadline:
					break collect
				}
			}
			slices.Sort(ms)
			at := func(q float64) float64 {
				if len(ms) == 0 {
					return -1
				}
				return ms[int(q*float64(len(ms)-1))]
			}
			answer(map[string]any{"received": len(ms), "p50_ms": at(.5), "p99_ms": at(.99), "max_ms": at(1),
				"bytes": f.bytes.Load(), "messages": f.messages.Load()})
		case "stats":
			answer(peer.Stats())
		default:
			log.Fatalf("unknown command %q", lines.Text())
		}
	}
}
