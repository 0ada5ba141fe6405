// Package client is the other end of the daemon's API: HTTP over a unix socket,
// one POST for each verb. [Client.Call] is for verbs that answer at once,
// [Client.Stream] for those that report progress, [Client.Upgrade] for those
// that turn the connection into a byte stream, [Client.Copy] for plain output.
package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"banger/internal/api"
)

// Client talks to the daemon at one socket. The zero value is not usable.
type Client struct {
	socket string
	http   *http.Client
}

// New returns a client of the daemon that listens at socket; nothing is dialled yet.
func New(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &Client{socket, &http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Call makes one request and decodes its answer into result, which may be nil.
func (c *Client) Call(ctx context.Context, verb string, request, result any) error {
	body, err := c.post(ctx, verb, request)
	if err != nil {
		return err
	}
	defer body.Close()
	if result == nil {
		return nil
	}
	if err := json.NewDecoder(body).Decode(result); err != nil {
		return fmt.Errorf("read the daemon's answer to %s: %w", verb, err)
	}
	return nil
}

// Stream makes one request, gives the events of its answer to p and decodes the
// last one's result into result.
func (c *Client) Stream(ctx context.Context, verb string, request any, p api.Progress, result any) error {
	body, err := c.post(ctx, verb, request)
	if err != nil {
		return err
	}
	defer body.Close()
	events := json.NewDecoder(body)
	for {
		var e struct {
			api.Event
			Result json.RawMessage `json:"result"`
		}
		if err := events.Decode(&e); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return api.Hint(fmt.Errorf("%s: the daemon went away in the middle: %w", verb, err),
				"its log says why: banger daemon status names it")
		}
		switch {
		case e.Error != nil:
			return e.Error
		case e.Result != nil:
			return json.Unmarshal(e.Result, result)
		case p != nil:
			p(e.Event)
		}
	}
}

// Copy makes one request and copies the bytes of its answer to w.
func (c *Client) Copy(ctx context.Context, verb string, request any, w io.Writer) error {
	body, err := c.post(ctx, verb, request)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return ctx.Err()
}

// Upgrade makes one request whose answer is a byte stream both ways.
func (c *Client) Upgrade(ctx context.Context, verb string, request any) (net.Conn, error) {
	req, err := newRequest(ctx, verb, request)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", api.Protocol)
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	answer := bufio.NewReader(conn)
	err = req.Write(conn)
	var res *http.Response
	if err == nil {
		res, err = http.ReadResponse(answer, req)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", verb, errors.Join(ctx.Err(), err))
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		defer conn.Close()
		defer res.Body.Close()
		return nil, readError(verb, res)
	}
	return &upgraded{conn, answer}, nil
}

// upgraded reads first what came in the same packet as the answer's header.
type upgraded struct {
	net.Conn
	r *bufio.Reader
}

func (u *upgraded) Read(b []byte) (int, error) { return u.r.Read(b) }

func (c *Client) post(ctx context.Context, verb string, request any) (io.ReadCloser, error) {
	req, err := newRequest(ctx, verb, request)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		return nil, readError(verb, res)
	}
	return res.Body, nil
}

func newRequest(ctx context.Context, verb string, request any) (*http.Request, error) {
	if request == nil {
		request = struct{}{}
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://banger/v1/"+verb, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

func readError(verb string, res *http.Response) error {
	var e api.Error
	if err := json.NewDecoder(res.Body).Decode(&e); err != nil || e.Message == "" {
		return fmt.Errorf("%s: the daemon answered %s", verb, res.Status)
	}
	return &e
}
