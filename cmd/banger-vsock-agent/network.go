package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/agent"
)

// setNetwork brings up the loopback and, when there is an address, the first
// card. It may be done again.
func setNetwork(n *agent.Network) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list network links: %w", err)
	}
	var card netlink.Link
	for _, l := range links {
		name := l.Attrs().Name
		if l.Attrs().Flags&net.FlagLoopback != 0 {
			err = errors.Join(err, up(l))
		} else if _, e := os.Stat(filepath.Join("/sys/class/net", name, "device")); e == nil && card == nil {
			card = l
		}
	}
	if n == nil || err != nil {
		return err
	}
	if card == nil {
		return errors.New("set up network: no card")
	}
	return setCard(card, n)
}

func setCard(card netlink.Link, n *agent.Network) error {
	name := card.Attrs().Name
	address, err := netlink.ParseAddr(n.Address)
	if err != nil {
		return fmt.Errorf("set up %s: %w", name, err)
	}
	if err := netlink.AddrReplace(card, address); err != nil {
		return fmt.Errorf("set address %s of %s: %w", n.Address, name, err)
	}
	if err := up(card); err != nil {
		return err
	}
	gateway := net.ParseIP(n.Gateway)
	if gateway == nil {
		return nil
	}
	route := &netlink.Route{LinkIndex: card.Attrs().Index, Gw: gateway}
	if err := netlink.RouteReplace(route); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("set default route %s of %s: %w", n.Gateway, name, err)
	}
	return nil
}

func up(l netlink.Link) error {
	if l.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring up %s: %w", l.Attrs().Name, err)
	}
	return nil
}
