-- name: keep_alive
-- So that the server notices a dead node within 25 s. Not through a pooler, whose sessions are not ours: there the process
-- that answers is another than the one that the connection was told of ($1). A Unix socket takes the settings and ignores
-- them.
SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '3', false)
WHERE pg_backend_pid() = $1;

-- name: notify
-- The self-test of LISTEN: does what one connection sends arrive at the other?
SELECT pg_notify($1, '');
