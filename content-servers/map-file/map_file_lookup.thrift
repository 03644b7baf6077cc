/** Look-up by key in Hadoop MapFiles: a shard is a folder with the files `data` and `index`. */
include "../../idl/lookup.thrift"

namespace * katamari_map_file

service MapFileLookup extends lookup.MapContent {}
