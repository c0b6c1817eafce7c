// Package schedule delivers messages at their time: after the delay of a level,
// at any instant to the millisecond, and again and again by a cron expression.
//
// A message that waits is a record of the log, as Apache's broker stores it:
// under the schedule topic with one queue per level, or under the timer topic.
// Defer is the pure rewrite that puts it there, Restore the one back. Between
// them a Service follows those queues and appends what is due to its real topic.
//
// What it promises:
//
//   - Never early: a message is appended when the clock shows its instant, or
//     later. Instants of timed messages are exact to the millisecond.
//   - Never lost: progress is saved only after the delivered copy is fsynced. A
//     crash in between delivers again what was delivered shortly before it.
//   - What is due is delivered in order of its due time, in bounded batches with
//     pauses between full ones.
//   - A step of the clock is noticed within a second. After a step back messages
//     wait until the clock shows their instant again.
//   - Every change of a waiting message (recall, new instant, carrying it to the
//     end of the log) is a record of the timer topic that names what it
//     replaces, so that the index can be made anew from the log.
//   - Memory depends on what is due soon, not on what waits: a row in the kv
//     store stands for each timed message.
//
// Three goroutines belong to a Service: the keeper, which follows the queues
// and keeps rows, the deliverer, which never touches the kv store, and the
// saver, which makes progress durable. Close ends and waits for them. All
// methods are safe for concurrent use.
package schedule
