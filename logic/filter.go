package logic

import "context"

// Rule looks at one text on its way into a message or a nickname. It returns the text
// to go on with, its own or another and never a longer one, or im.ErrContentRefused
// (wrapped or not) to end it. Rules run before the ack, in the send path: one that
// asks another system sets itself a deadline well below the 5 s of a send. The text
// is valid UTF-8 of at most im.MaxTextBytes.
type Rule interface {
	Apply(ctx context.Context, text string) (string, error)
}

// Chain is rules in order; each sees what the one before it left. It implements
// Filter, and is a Rule itself.
type Chain []Rule

// Apply runs the chain; the first error ends it. Without rules everything passes.
func (c Chain) Apply(ctx context.Context, text string) (string, error) {
	var err error
	for _, rule := range c {
		if text, err = rule.Apply(ctx, text); err != nil {
			return "", err
		}
	}
	return text, nil
}
