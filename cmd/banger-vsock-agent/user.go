package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// user is whom a command runs as.
type user struct {
	uid, gid uint32
	groups   []uint32 // supplementary
	home     string
}

// lookupUser resolves user[:group] by the image's own /etc/passwd and
// /etc/group; names or numbers, and a number need not be listed. As container
// engines have it, a group that is given replaces all groups of the user.
func lookupUser(root, spec string) (user, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	if name == "" {
		name = "0"
	}
	found, listed, err := findUser(root, name)
	if err != nil {
		return user{}, fmt.Errorf("user %q: %w", spec, err)
	}
	if hasGroup && group != "" {
		gid, err := findGroup(root, group)
		if err != nil {
			return user{}, fmt.Errorf("user %q: %w", spec, err)
		}
		found.gid = gid
	} else if listed != "" {
		err := eachLine(root, "/etc/group", 4, func(field []string) bool {
			gid, err := parseID(field[2])
			if err == nil && slices.Contains(strings.Split(field[3], ","), listed) {
				found.groups = append(found.groups, gid)
			}
			return true
		})
		if err != nil {
			return user{}, err
		}
	}
	if !slices.Contains(found.groups, found.gid) {
		found.groups = append(found.groups, found.gid)
	}
	return found, nil
}

// findUser returns the user and the name by which it is listed, if it is. A
// listed name wins over a number, even a name made of digits.
func findUser(root, name string) (found user, listed string, err error) {
	uid, numeric := parseID(name)
	found = user{uid: uid, home: "/"}
	err = eachLine(root, "/etc/passwd", 6, func(field []string) bool {
		u, errU := parseID(field[2])
		g, errG := parseID(field[3])
		if errU != nil || errG != nil || field[0] != name && (numeric != nil || u != uid) {
			return true
		}
		found, listed = user{uid: u, gid: g, home: field[5]}, field[0]
		return false
	})
	switch {
	case err != nil:
		return user{}, "", err
	case listed == "" && numeric != nil:
		return user{}, "", errors.New("not in the image's /etc/passwd")
	}
	if found.home == "" {
		found.home = "/"
	}
	return found, listed, nil
}

func findGroup(root, name string) (uint32, error) {
	gid, numeric := parseID(name)
	if numeric == nil {
		return gid, nil
	}
	found := false
	err := eachLine(root, "/etc/group", 3, func(field []string) bool {
		g, err := parseID(field[2])
		if err == nil && field[0] == name {
			gid, found = g, true
		}
		return !found
	})
	if err == nil && !found {
		err = fmt.Errorf("group %q is not in the image's /etc/group", name)
	}
	return gid, err
}

// eachLine calls f with the fields of each line that has at least min of them,
// until f returns false. A file that is not there has no lines.
func eachLine(root, name string, min int, f func(field []string) bool) error {
	at, err := inside(root, name)
	if err != nil {
		return err
	}
	file, err := os.Open(at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(nil, 1<<20) // a group may have thousands of members
	for in.Scan() {
		if field := strings.Split(strings.TrimSpace(in.Text()), ":"); len(field) >= min && !f(field) {
			return nil
		}
	}
	return in.Err()
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err
}
