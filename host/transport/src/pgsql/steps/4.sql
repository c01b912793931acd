-- A claim is compressed once and read by nobody but whoever made it: quickly, where the server can.
DO $quick$
BEGIN
    EXECUTE 'ALTER TABLE asynctask.rex_claims
        ALTER COLUMN ids SET COMPRESSION lz4,
        ALTER COLUMN payloads SET COMPRESSION lz4,
        ALTER COLUMN dates SET COMPRESSION lz4,
        ALTER COLUMN attempts SET COMPRESSION lz4,
        ALTER COLUMN done SET COMPRESSION lz4';
EXCEPTION
    -- Built without it; older than 14.
    WHEN feature_not_supported OR syntax_error THEN NULL;
END
$quick$;
