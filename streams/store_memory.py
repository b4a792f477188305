"""How RocksDB is run for a worker's stores, and the bounded memory that they share.

Knows nothing of what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, WriteBufferManager, WriteOptions

OPEN_FILES = 64
"""Of one partition at most, each of up to 64 MiB."""

_MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """The memory that all stores of a process share: blocks read, and what is not written out yet, `mib` in all."""

    mib: int
    cache: Cache
    buffers: WriteBufferManager

    @staticmethod
    def of(mib: int) -> Memory:
        cache = Cache(mib * _MIB)
        # What is in write buffers is charged to the cache, which shrinks by it.
        return Memory(mib, cache, WriteBufferManager.new_write_buffer_manager_with_cache(mib * _MIB // 4, False, cache))

    def options(self) -> Options:
        """How RocksDB is run: point lookups of states of some KB, two background threads for all stores."""
        buffer = min(16, max(2, self.mib // 16)) * _MIB
        table = BlockBasedOptions()
        table.set_block_cache(self.cache)
        table.set_block_size(4096)
        table.set_format_version(5)
        table.set_bloom_filter(10, False)
        table.set_cache_index_and_filter_blocks(True)  # or they would be outside the bound
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(table)
        options.set_paranoid_checks(True)
        options.set_write_buffer_manager(self.buffers)
        options.set_write_buffer_size(buffer)
        options.set_arena_block_size(128 * 1024)
        options.set_max_bytes_for_level_base(4 * buffer)
        options.set_target_file_size_base(64 * _MIB)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_bottommost_compression_type(DBCompressionType.zstd())
        options.set_max_background_jobs(2)
        options.set_max_open_files(OPEN_FILES)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(_MIB)
        return options


def unlogged() -> WriteOptions:
    """Writes without RocksDB's own log: the changelog is it."""
    options = WriteOptions()
    options.disable_wal = True
    return options
