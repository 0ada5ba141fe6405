package vm

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"banger/internal/agent"
	"banger/internal/api"
)

// A state is only worth as much as the process behind it.
func TestSettled(t *testing.T) {
	t.Parallel()
	me, err := self()
	if err != nil {
		t.Fatal(err)
	}
	reused, rebooted, dead := me, me, me
	reused.Start++ // the pid is another process's by now
	rebooted.BootID = "00000000-0000-0000-0000-000000000000"
	dead.PID = 1 << 30
	for _, c := range []struct {
		name       string
		state      api.VMState
		supervisor process
		want       api.VMState
	}{
		{"alive", api.VMRunning, me, api.VMRunning},
		{"alive, starting", api.VMStarting, me, api.VMStarting},
		{"dead", api.VMRunning, dead, api.VMFailed},
		{"pid used again", api.VMRunning, reused, api.VMFailed},
		{"dead while starting", api.VMStarting, dead, api.VMFailed},
		{"dead while stopping", api.VMStopping, dead, api.VMStopped},
		{"host was rebooted", api.VMRunning, rebooted, api.VMStopped},
		{"host was rebooted, starting", api.VMStarting, rebooted, api.VMStopped},
		{"stopped long ago", api.VMStopped, dead, api.VMStopped},
		{"failed before the reboot", api.VMFailed, rebooted, api.VMFailed},
		{"never started", api.VMCreated, process{}, api.VMCreated},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := state{State: c.state, Supervisor: c.supervisor, PID: 7}.settled()
			if got.State != c.want {
				t.Errorf("got %s, want %s", got.State, c.want)
			}
			if got.State != c.state && got.PID != 0 {
				t.Errorf("got pid %d of a VM that is gone", got.PID)
			}
			if (got.State == api.VMFailed) != (got.Reason != "") && c.state != api.VMFailed {
				t.Errorf("%s: got reason %q", got.State, got.Reason)
			}
		})
	}
}

func TestTornStateIsStopped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(`{"state": "runn`), 0o600); err != nil {
		t.Fatal(err)
	}
	if st, err := readState(dir); err != nil || st.State != api.VMStopped {
		t.Errorf("got %v, %v; want stopped", st.State, err)
	}
}

// The guest's clock began 300 ms after its kernel printed its first byte.
func TestTimelineOfTheGuest(t *testing.T) {
	t.Parallel()
	first := time.Unix(100, 0)
	tl := timeline{last: first}
	tl.guest(agent.Info{
		Uptime: 1100 * time.Millisecond,
		Phases: []agent.Phase{{Name: "init", At: 700 * time.Millisecond}, {Name: "agent", At: time.Second}},
	}, first.Add(1400*time.Millisecond))
	want := []api.Phase{
		{Name: "kernel", Duration: time.Second},
		{Name: "agent", Duration: 300 * time.Millisecond},
		{Name: "answer", Duration: 100 * time.Millisecond},
	}
	if !slices.Equal(tl.phases, want) {
		t.Errorf("got %v, want %v", tl.phases, want)
	}
}
