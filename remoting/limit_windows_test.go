package remoting

// descriptors is how many this process may have open.
func descriptors() int { return 1 << 20 }
