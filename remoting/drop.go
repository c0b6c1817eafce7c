package remoting

// Drop gives up an answer that was begun: nothing of it is sent. The request
// stays unanswered until another Reply or Later.
func (w *Writer) Drop() {
	w.drop = true
	_ = w.End()
}
