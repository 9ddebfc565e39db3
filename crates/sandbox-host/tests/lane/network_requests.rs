//! Names, interception, middlewares and secrets: what arrives upstream, and what does not.
