"""Jobs that outlive the process that launched them: a registry in SQL, watchers that share them, processes that do them."""
