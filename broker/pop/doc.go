// Package pop keeps what is handed out to the members of consumer groups that
// share queues: which messages, until when nobody else gets them, and which of
// them are acknowledged. A queue of a group is a cursor, behind which nothing
// was handed out yet, and the messages before it that nobody acknowledged.
//
// What it promises:
//
//   - A message that is not acknowledged is handed out again once its time is
//     over, as often as the caller's limit allows; Expired gives the others.
//   - A message whose Ack was followed by a Safe that returned nil is never
//     handed out again: not after the process was killed, and with Options.Sync
//     not after a power cut either. Without Sync a power cut may take what
//     reached the kernel last. A lost hand-out means that messages come again.
//   - Only the handle of the last hand-out of a message can acknowledge it.
//   - What it holds is bounded: per queue, and in all.
//
// All state is in memory, and every change of it is a row or two in one bucket
// of internal/kv: one for the cursor of a queue, one for each hand-out. One
// goroutine writes them, many together. It knows no wire and no client.
package pop
