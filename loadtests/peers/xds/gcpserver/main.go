// Command gcpserver is the go-control-plane peer of the benchmark.
//
// It serves CDS and EDS over ADS (state of the world and Delta) for -services
// clusters of -endpoints endpoints each. All nodes share one view. It is driven
// by the line protocol described in loadtests/xdspeers.py: "flip <service>", "stats", "quit".
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"maps"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"isthmus.dev/loadtests/peers/xds/peer"
)

// oneView maps every node to the same snapshot key.
type oneView struct{}

func (oneView) ID(*core.Node) string { return "all" }

func clusterName(i int) string { return fmt.Sprintf("svc-%04d", i) }

func makeCluster(i int) *cluster.Cluster {
	return &cluster.Cluster{
		Name:                 clusterName(i),
		ConnectTimeout:       durationpb.New(time.Second),
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig: &cluster.Cluster_EdsClusterConfig{EdsConfig: &core.ConfigSource{
			ResourceApiVersion:    core.ApiVersion_V3,
			ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
		}},
	}
}

func makeLoadAssignment(i, endpoints int, firstSick bool) *endpoint.ClusterLoadAssignment {
	hosts := make([]*endpoint.LbEndpoint, endpoints)
	for j := range hosts {
		health := core.HealthStatus_HEALTHY
		if j == 0 && firstSick {
			health = core.HealthStatus_UNHEALTHY
		}
		hosts[j] = &endpoint.LbEndpoint{
			HealthStatus:        health,
			LoadBalancingWeight: wrapperspb.UInt32(1),
			HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{
				Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
					Address:       fmt.Sprintf("10.%d.%d.%d", i/250, i%250, j+1),
					PortSpecifier: &core.SocketAddress_PortValue{PortValue: 8080},
				}}},
			}},
		}
	}
	return &endpoint.ClusterLoadAssignment{
		ClusterName: clusterName(i),
		Endpoints: []*endpoint.LocalityLbEndpoints{{
			Locality:            &core.Locality{Region: "r1", Zone: "z1"},
			LoadBalancingWeight: wrapperspb.UInt32(1),
			LbEndpoints:         hosts,
		}},
	}
}

// publisher replaces one load assignment and pushes it to every watch.
type publisher func(ctx context.Context, cla *endpoint.ClusterLoadAssignment) error

func snapshotMode(services, endpoints int) (cache.Cache, publisher) {
	snapshots := cache.NewSnapshotCache(true, oneView{}, nil)
	var clusters, assignments []types.Resource
	for i := range services {
		clusters = append(clusters, makeCluster(i))
		assignments = append(assignments, makeLoadAssignment(i, endpoints, false))
	}
	cds := cache.NewResources("1", clusters)
	eds := cache.NewResources("1", assignments)
	version := 1
	set := func(ctx context.Context) error {
		snapshot := &cache.Snapshot{}
		snapshot.Resources[types.Cluster] = cds
		snapshot.Resources[types.Endpoint] = eds
		return snapshots.SetSnapshot(ctx, "all", snapshot)
	}
	if err := set(context.Background()); err != nil {
		log.Fatal(err)
	}
	return snapshots, func(ctx context.Context, cla *endpoint.ClusterLoadAssignment) error {
		version++
		items := maps.Clone(eds.Items)
		items[cla.GetClusterName()] = types.ResourceWithTTL{Resource: cla}
		eds = cache.Resources{Version: strconv.Itoa(version), Items: items}
		return set(ctx)
	}
}

func linearMode(services, endpoints int) (cache.Cache, publisher) {
	clusters := make(map[string]types.Resource, services)
	assignments := make(map[string]types.Resource, services)
	for i := range services {
		clusters[clusterName(i)] = makeCluster(i)
		assignments[clusterName(i)] = makeLoadAssignment(i, endpoints, false)
	}
	eds := cache.NewLinearCache(resource.EndpointType, cache.WithInitialResources(assignments))
	mux := &cache.MuxCache{
		Classify:      func(r *cache.Request) string { return r.GetTypeUrl() },
		ClassifyDelta: func(r *cache.DeltaRequest) string { return r.GetTypeUrl() },
		Caches: map[string]cache.Cache{
			resource.ClusterType:  cache.NewLinearCache(resource.ClusterType, cache.WithInitialResources(clusters)),
			resource.EndpointType: eds,
		},
	}
	return mux, func(_ context.Context, cla *endpoint.ClusterLoadAssignment) error {
		return eds.UpdateResource(cla.GetClusterName(), cla)
	}
}

// mutual reads the files CERT,KEY,CA of a server that asks for certificates.
func mutual(files string) credentials.TransportCredentials {
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
	return credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	})
}

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "listen address")
	mode := flag.String("mode", "snapshot", "cache for EDS: snapshot or linear")
	services := flag.Int("services", 1000, "number of clusters")
	endpoints := flag.Int("endpoints", 20, "endpoints of each cluster")
	mtls := flag.String("tls", "", "serve mTLS with CERT,KEY,CA")
	flag.Parse()

	ctx := context.Background()
	build := snapshotMode
	if *mode == "linear" {
		build = linearMode
	}
	source, publish := build(*services, *endpoints)

	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	options := []grpc.ServerOption{grpc.MaxConcurrentStreams(1_000_000)}
	if *mtls != "" {
		options = append(options, grpc.Creds(mutual(*mtls)))
	}
	grpcServer := grpc.NewServer(options...)
	discovery.RegisterAggregatedDiscoveryServiceServer(grpcServer, server.NewServer(ctx, source, nil))
	go func() { log.Fatal(grpcServer.Serve(listener)) }()

	reply := json.NewEncoder(os.Stdout)
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	must(reply.Encode(map[string]any{"addr": listener.Addr().String(), "pid": os.Getpid()}))
	sick := make([]bool, *services)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 2 && words[0] == "flip":
			i, err := strconv.Atoi(words[1])
			must(err)
			sick[i] = !sick[i]
			must(publish(ctx, makeLoadAssignment(i, *endpoints, sick[i])))
			must(reply.Encode(map[string]any{"flipped": clusterName(i)}))
		case len(words) == 1 && words[0] == "stats":
			must(reply.Encode(peer.Stats()))
		case len(words) == 1 && words[0] == "quit":
			return
		default:
			log.Fatalf("unknown command %q", lines.Text())
		}
	}
}
