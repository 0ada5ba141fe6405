-- A database of schema version 1, as banger before names of images wrote it:
-- an image with a VM, one that was replaced while a VM used it, a registered one.

CREATE TABLE images (
		id              TEXT PRIMARY KEY,
		name            TEXT UNIQUE,      -- NULL: replaced, but a VM still uses it
		ref             TEXT NOT NULL,
		digest          TEXT NOT NULL,
		platform        TEXT NOT NULL,
		managed         INTEGER NOT NULL,
		rootfs_path     TEXT NOT NULL,
		kernel_ref      TEXT NOT NULL,
		kernel_path     TEXT NOT NULL,
		initrd_path     TEXT NOT NULL,
		modules_dir     TEXT NOT NULL,
		size_bytes      INTEGER NOT NULL,
		rootfs_mtime    INTEGER NOT NULL, -- of an unmanaged file: changed since means an error
		created_at      INTEGER NOT NULL,
		process         TEXT NOT NULL,    -- JSON
		warnings        TEXT NOT NULL     -- JSON
	) STRICT;
	CREATE TABLE vms (
		id         TEXT PRIMARY KEY,
		name       TEXT NOT NULL UNIQUE,
		image_id   TEXT NOT NULL REFERENCES images(id),
		ephemeral  INTEGER NOT NULL,
		cpus       INTEGER NOT NULL,
		memory_mib INTEGER NOT NULL,
		disk_bytes INTEGER NOT NULL,
		dir        TEXT NOT NULL,
		created_at INTEGER NOT NULL
	) STRICT;
	CREATE INDEX vms_by_image ON vms(image_id);
INSERT INTO images VALUES
	('0123456789ab', 'debian-bookworm', 'docker.io/library/debian:bookworm', 'sha256:12', 'linux/amd64', 1,
	 '/s/images/0123456789ab/rootfs.ext4', 'debian', '/s/images/0123456789ab/vmlinux', '/s/images/0123456789ab/initrd',
	 '/s/images/0123456789ab/modules.ext4', 1073741824, 5000000006, 7000000008,
	 '{"entrypoint":["/e"],"cmd":["c"],"env":["A=b"],"user":"u","working_dir":"/w"}',
	 '[{"kind":"k","layer":"l","path":"p","message":"m"}]'),
	('aaaaaaaaaaaa', NULL, 'docker.io/library/debian:bookworm', 'sha256:11', 'linux/amd64', 1,
	 '/s/images/aaaaaaaaaaaa/rootfs.ext4', '', '', '', '', 1073741824, 1, 2, '{}', 'null'),
	('bbbbbbbbbbbb', 'mine', '', '', 'linux/amd64', 0,
	 '/home/u/mine.ext4', '', '', '', '', 4096, 3, 4, '{}', 'null');
INSERT INTO vms VALUES
	('111111111111', 'dev', '0123456789ab', 0, 2, 1024, 2147483648, '/s/vms/111111111111', 9),
	('222222222222', 'old', 'aaaaaaaaaaaa', 1, 1, 512, 1073741824, '/s/vms/222222222222', 8);
PRAGMA user_version = 1;
