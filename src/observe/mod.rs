//! Not moved in yet.
