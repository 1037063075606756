// What Swift cannot see of sqlite3.h: macros, variadic functions, and values that stand for pointers.
#ifndef AEGIS_CSQLITE_SHIM_H
#define AEGIS_CSQLITE_SHIM_H

#include <sqlite3.h>

// Binds a copy of the text. A null pointer is the empty text, not SQL NULL.
static inline int al_sqlite_bind_text(sqlite3_stmt *statement, int index, const char *text, int length) {
    return sqlite3_bind_text(statement, index, text ? text : "", text ? length : 0, SQLITE_TRANSIENT);
}

// Binds a copy of the bytes. A null pointer is the empty blob, not SQL NULL.
static inline int al_sqlite_bind_blob(sqlite3_stmt *statement, int index, const void *bytes, int length) {
    if (!bytes || length == 0) return sqlite3_bind_zeroblob(statement, index, 0);
    return sqlite3_bind_blob(statement, index, bytes, length, SQLITE_TRANSIENT);
}

// With it the last connection leaves the main file and its WAL as they are.
static inline int al_sqlite_keep_wal_on_close(sqlite3 *db, int keep) {
    return sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep, (int *)0);
}

// Only SQL of ours is run, but a file that someone tampered with must not run code or rewrite the schema.
static inline void al_sqlite_distrust_file(sqlite3 *db) {
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, (int *)0);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)0);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DML, 0, (int *)0);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DDL, 0, (int *)0);
}

// errno of the system call that just failed. SQLite remembers it for every statement but COMMIT.
static inline int al_sqlite_system_errno(sqlite3 *db) {
    sqlite3_vfs *vfs = sqlite3_vfs_find((const char *)0);
    int now = vfs && vfs->xGetLastError ? vfs->xGetLastError(vfs, 0, (char *)0) : 0;
    int remembered = sqlite3_system_errno(db);
    return remembered ? remembered : now;
}

// Removes a file through SQLite's own file layer and syncs its folder.
static inline int al_sqlite_delete_file(const char *path) {
    sqlite3_vfs *vfs = sqlite3_vfs_find((const char *)0);
    return vfs ? vfs->xDelete(vfs, path, 1) : SQLITE_ERROR;
}

#endif
