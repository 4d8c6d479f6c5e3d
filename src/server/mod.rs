//! Assembly of the server: settings, listener, shutdown, telemetry.
