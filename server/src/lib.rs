//! A minimal MCP server without credentials: declared tools, forwarded to `BACKEND_API_URL` over plain HTTP on loopback.

#![forbid(unsafe_code)]
