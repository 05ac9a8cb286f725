-- min_reader: 1
-- What the adoption of an older database had to change, as it was before. Adoption itself runs before this file does.

CREATE TABLE IF NOT EXISTS scheduler_adopted (
    job_id     text        NOT NULL PRIMARY KEY,
    original   json        NOT NULL,
    adopted_at timestamptz NOT NULL DEFAULT scheduler_now()
);
