package api

// Event is one line of a progress stream. Exactly one of the fields Result and
// Error is set in the last event of a stream, and in no other.
//
// All others are a message, or a count: those have a total, and say how far a
// phase has come, with an ID how far one of several things that are done in it.
// A count has ended when done is the total; a phase may be counted again. Counts
// come at most five times a second, and not while nothing moves.
type Event struct {
	Phase   string `json:"phase,omitempty"`   // what is being done, such as "fetch"
	ID      string `json:"id,omitempty"`      // to what: the digest of a layer; "" is the phase as a whole
	Message string `json:"message,omitempty"` // for a person
	Done    int64  `json:"done,omitempty"`    // bytes
	Total   int64  `json:"total,omitempty"`   // bytes; 0 in a message
	Warning bool   `json:"warning,omitempty"` // the message is one that the user should know
	Note    bool   `json:"note,omitempty"`    // the message is of use after the call; one of neither is what is being done now

	Result any    `json:"result,omitempty"`
	Error  *Error `json:"error,omitempty"`
}

// Phases of a call that are counted. Others have messages only.
const (
	// PhaseTotal is the whole call, in bytes of work: what is to be fetched counts
	// once, and what is to be converted counts once more.
	PhaseTotal   = "total"
	PhaseFetch   = "fetch"   // bytes as they are stored; what an earlier try left is done from the start
	PhaseConvert = "convert" // of a layer's bytes as they are stored, those that are in the disk
	PhaseHash    = "hash"
	PhaseCopy    = "copy"
	PhasePack    = "pack"   // into a bundle
	PhaseUnpack  = "unpack" // a package
	PhasePush    = "push"
	PhaseExport  = "export"  // from a disk, of files' contents
	PhaseVerify  = "verify"  // of all layers' bytes as they are stored, which are read twice
	PhaseCompare = "compare" // of files' contents on two disks
)

// Progress receives the events of a long call. A nil Progress is silent.
type Progress func(Event)

// Say reports in words what is being done now.
func (p Progress) Say(phase, message string) { p.send(Event{Phase: phase, Message: message}) }

// Note reports something that is worth to be read after the call.
func (p Progress) Note(phase, message string) {
	p.send(Event{Phase: phase, Message: message, Note: true})
}

// Warn reports something the user should know that does not stop the call.
func (p Progress) Warn(phase, message string) {
	p.send(Event{Phase: phase, Message: message, Warning: true})
}

// Count reports how much of a phase is done, or with an ID of one thing in it, in
// bytes.
func (p Progress) Count(phase, id string, done, total int64) {
	p.send(Event{Phase: phase, ID: id, Done: done, Total: total})
}

func (p Progress) send(e Event) {
	if p != nil {
		p(e)
	}
}
