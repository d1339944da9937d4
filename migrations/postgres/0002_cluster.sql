-- Hosts and shards. A shard's lease is its owner's, and owners are named with their incarnation, so that a process is
-- never taken for the one before of the same name. All times are this server's.

CREATE TABLE hosts (
    id          text COLLATE "C" PRIMARY KEY,
    incarnation bigint NOT NULL,
    lease_until bigint NOT NULL,
    seen_at     bigint NOT NULL,
    draining    boolean NOT NULL,
    address     text NOT NULL,
    version     text NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE shards (
    shard       smallint PRIMARY KEY CHECK (shard BETWEEN 0 AND 255),
    host        text COLLATE "C",
    incarnation bigint,
    epoch       bigint NOT NULL DEFAULT 0,
    CHECK ((host IS NULL) = (incarnation IS NULL))
) WITH (fillfactor = 50);
INSERT INTO shards (shard) SELECT generate_series(0, 255);

CREATE FUNCTION relive_now() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint
$$;

-- How everybody stands, as JSON. Volatile: it sees what the caller has just written and waited for.
CREATE FUNCTION relive_cluster() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    moment bigint := relive_now();
BEGIN
    RETURN (SELECT json_build_object(
        'hosts', (SELECT coalesce(json_agg(json_build_array(
            h.id, h.incarnation, h.address, h.version, h.draining, h.lease_until > moment, greatest(moment - h.seen_at, 0)
        ) ORDER BY h.id), '[]') FROM hosts h),
        'shards', (SELECT json_agg(json_build_array(s.host, s.incarnation, s.epoch) ORDER BY s.shard) FROM shards s),
        'revision', (SELECT value FROM meta WHERE key = 'catalog_revision'),
        'now', moment
    )::text);
END $$;

-- Makes the host known or renews its lease, then looks around; one statement after the other, so that a beat that had to
-- wait for a claim sees what was claimed. NULL: another process has the name.
CREATE FUNCTION relive_beat(me text, born bigint, at text, program text, leaving boolean, lease bigint)
RETURNS TABLE (taken_by text, view text) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    moment bigint := relive_now();
BEGIN
    INSERT INTO hosts AS h (id, incarnation, lease_until, seen_at, draining, address, version)
    VALUES (me, born, moment + lease, moment, leaving, at, program)
    ON CONFLICT (id) DO UPDATE SET incarnation = born, lease_until = moment + lease, seen_at = moment,
        draining = leaving, address = at, version = program
    WHERE h.incarnation = born OR h.lease_until <= moment;
    IF FOUND THEN
        RETURN QUERY SELECT NULL::text, relive_cluster();
    ELSE
        RETURN QUERY SELECT h.address, NULL::text FROM hosts h WHERE h.id = me;
    END IF;
END $$;

-- Gives the host what is free of the shards wanted. The hosts' rows are locked first: no lease is renewed while it is
-- judged, and claims come one after the other.
CREATE FUNCTION relive_claim(me text, born bigint, wanted smallint[])
RETURNS TABLE (claimed smallint, under bigint, unclean boolean) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    moment bigint;
BEGIN
    PERFORM 1 FROM hosts h ORDER BY h.id FOR UPDATE;
    moment := relive_now();
    IF NOT EXISTS (
        SELECT FROM hosts h
        WHERE h.id = me AND h.incarnation = born AND h.lease_until > moment AND NOT h.draining
    ) THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH free AS (
        SELECT s.shard, s.host IS NOT NULL AS unclean FROM shards s
        WHERE s.shard = ANY (wanted) AND NOT EXISTS (
            SELECT FROM hosts h WHERE h.id = s.host AND h.incarnation = s.incarnation AND h.lease_until > moment
        )
        ORDER BY s.shard FOR UPDATE
    )
    UPDATE shards s SET host = me, incarnation = born, epoch = s.epoch + 1
    FROM free WHERE s.shard = free.shard RETURNING s.shard, s.epoch, free.unclean;
END $$;

CREATE FUNCTION relive_release(me text, born bigint, given smallint[]) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM 1 FROM shards s WHERE s.shard = ANY (given) ORDER BY s.shard FOR UPDATE;
    UPDATE shards s SET host = NULL, incarnation = NULL
    WHERE s.shard = ANY (given) AND s.host = me AND s.incarnation = born;
END $$;

-- The host's row first, as claims do.
CREATE FUNCTION relive_leave(me text, born bigint) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    DELETE FROM hosts h WHERE h.id = me AND h.incarnation = born;
    PERFORM 1 FROM shards s WHERE s.host = me AND s.incarnation = born ORDER BY s.shard FOR UPDATE;
    UPDATE shards s SET host = NULL, incarnation = NULL WHERE s.host = me AND s.incarnation = born;
END $$;
