// Package txn is what becomes of a transactional message between its send and
// its outcome. A prepared message (a half) is stored in the half topic, where
// no consumer sees it. Its producer ends it: a commit stores the final message
// in its real topic, a rollback nothing, and both a mark in the op topic that
// names the half. The files are Apache RocketMQ's.
//
// What it promises:
//
//   - The final message and the mark are stored with one write, the final
//     first. A crash in between leaves the half pending: a committed message is
//     delivered at least once, one that was rolled back never. The same holds for
//     the copy of a half and its mark: a half goes only where its copy is.
//   - The first verdict stands, for as long as the log has the half. Ends that
//     repeat it change nothing, one that contradicts it is refused, and told; so
//     is one of which nothing says any more whether it does.
//   - A half that nobody ends is asked about: one live producer of its group
//     gets a check, whose answer is an end. The counter of checks rises only
//     when one was really sent. After the last one, or at its greatest age, the
//     half goes to the topic of discarded halves, where it can be read.
//   - Halves that are pending cost memory, resolved ones two bits on disk. What is
//     pending, with counters and checks, is written behind to goleveldb, never
//     further than the log is durable, and made anew from the half and op
//     queues where that is missing. A restart reads what is pending.
//   - A half does not go with its segment: Carry stores it again, and an end may
//     name it by either place. One that cannot be read or stored again is let go
//     of, and told: it holds nothing up.
//
// One goroutine runs the checks and writes behind; Close ends it. All methods
// of a Coordinator are safe for concurrent use.
package txn
