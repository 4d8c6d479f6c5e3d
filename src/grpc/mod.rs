//! The gRPC front end: decode, call the engine, encode.
