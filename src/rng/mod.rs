//! Random streams that match other systems' bit for bit, or to the last float digit. Pure: no clock, no global state.
