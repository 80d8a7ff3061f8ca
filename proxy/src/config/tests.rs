//! What a configuration is refused for, in which words, and what it becomes.
