//! Test harness: a development authority, an echo upstream, a token volume that swaps as the kubelet does, certificates, processes.
