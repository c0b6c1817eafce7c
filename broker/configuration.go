package broker

import (
	"errors"

	"github.com/merlinmq/merlin/internal/config"
)

// ConfigRefusal turns an error of changing a setting while the broker runs
// into a refusal; nil stays nil.
func ConfigRefusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, config.ErrForbidden):
		return fail(KindNoPermission, nil, "%s", err)
	}
	return fail(KindSystem, nil, "%s", err)
}
