package client

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultNameServer is used when nobody says otherwise.
const DefaultNameServer = "127.0.0.1:9876"

// ParseNameServers takes a list of name servers apart: HOST:PORT, separated by
// semicolons or commas, with or without http://. The port may be left out and
// is 9876 then.
func ParseNameServers(list string) ([]string, error) {
	var addrs []string
	for _, a := range strings.FieldsFunc(list, func(r rune) bool { return r == ';' || r == ',' || r == ' ' }) {
		a = strings.TrimSuffix(strings.TrimPrefix(a, "http://"), "/")
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			if host, port = strings.Trim(a, "[]"), "9876"; strings.Contains(host, ":") && !isIPv6(host) {
				return nil, fmt.Errorf("name server %q: want HOST:PORT", a)
			}
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if host == "" || err != nil || n == 0 {
			return nil, fmt.Errorf("name server %q: want HOST:PORT with a port from 1 to 65535", a)
		}
		addrs = append(addrs, net.JoinHostPort(host, port))
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("name server %q: want HOST:PORT, several separated by semicolons", list)
	}
	return addrs, nil
}

func isIPv6(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Is6()
}

// resolve turns host names into IP addresses, IPv4 before IPv6:
// rocketmq-client-go refuses names.
func resolve(ctx context.Context, addrs []string) ([]string, error) {
	out := make([]string, 0, len(addrs))
	for _, a := range addrs {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			return nil, fmt.Errorf("name server %q: %w", a, err)
		}
		if _, err := netip.ParseAddr(host); err == nil {
			out = append(out, a)
			continue
		}
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, &UnreachableError{Role: roleNameServer, Addr: a, Err: err}
		}
		best := ips[0].Unmap()
		for _, ip := range ips {
			if ip = ip.Unmap(); ip.Is4() {
				best = ip
				break
			}
		}
		out = append(out, net.JoinHostPort(best.String(), port))
	}
	return out, nil
}
