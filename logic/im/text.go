package im

import "unicode"

// Visible says whether r shows by itself: not white space, not a control, not
// default-ignorable (zero-width, joiners, variation selectors, soft hyphen, bidi
// controls, tags; Unicode DerivedCoreProperties).
func Visible(r rune) bool {
	return !unicode.IsSpace(r) && !unicode.IsControl(r) && !DefaultIgnorable(r)
}

// DefaultIgnorable reports Default_Ignorable_Code_Point of Unicode 15.
func DefaultIgnorable(r rune) bool {
	switch {
	case r == 0x00AD, r == 0x034F, r == 0x061C, r == 0x3164, r == 0xFEFF, r == 0xFFA0:
		return true
	case r >= 0x115F && r <= 0x1160, r >= 0x17B4 && r <= 0x17B5, r >= 0x180B && r <= 0x180F,
		r >= 0x200B && r <= 0x200F, r >= 0x202A && r <= 0x202E, r >= 0x2060 && r <= 0x206F,
		r >= 0xFE00 && r <= 0xFE0F, r >= 0xFFF0 && r <= 0xFFF8, r >= 0x1BCA0 && r <= 0x1BCA3,
		r >= 0x1D173 && r <= 0x1D17A, r >= 0xE0000 && r <= 0xE0FFF:
		return true
	}
	return false
}
