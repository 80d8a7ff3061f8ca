//! Series of the token flow: subject tokens, exchanges, issued tokens.
