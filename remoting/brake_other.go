//go:build !linux

package remoting

import "errors"

// canBrake says whether a socket can be kept from receiving.
const canBrake = false

func brake(int, bool) error { return errors.ErrUnsupported }
