// Tells from the first bytes of an index which Lucene wrote it, so that a refusal can name the server that reads it.

package katamari.lucene;

import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import katamari.chassis.DamagedShardException;

enum IndexFormat {
  /** Lucene 3 and older. */
  OLD,
  /** Lucene 4 and later. */
  NEW;

  private static final int NEW_MAGIC = 0x3fd76c17;
  /** Formats of Lucene 3 and older are small negative numbers. */
  private static final int OLD_LEAST = -11;

  /**
   * @throws IOException when there is no index
   * @throws DamagedShardException when its first bytes are of no version
   */
  static IndexFormat of(Path folder) throws IOException, DamagedShardException {
    Path segments = newest(folder);
    int first;
    try (DataInputStream in = new DataInputStream(Files.newInputStream(segments))) {
      first = in.readInt();
    } catch (EOFException tooShort) {
      throw new DamagedShardException(segments.getFileName() + " ends too early");
    }
    if (first == NEW_MAGIC) return NEW;
    if (first < 0 && first >= OLD_LEAST) return OLD;
    throw new DamagedShardException(segments.getFileName() + " begins like no file of Lucene");
  }

  private static Path newest(Path folder) throws IOException {
    if (!Files.isDirectory(folder))
      throw new NoSuchFileException("Cannot open " + folder + ": it is not a folder, expected one with a Lucene index");
    try (Stream<Path> files = Files.list(folder)) {
      List<Path> segments =
          files.filter(file -> file.getFileName().toString().matches("segments(_[0-9a-z]+)?")).collect(Collectors.toList());
      return segments.stream()
          .max(Comparator.comparingLong(IndexFormat::generation))
          .orElseThrow(() -> new IOException("Cannot open " + folder + ": it has no file segments_N, so no Lucene index"));
    }
  }

  private static long generation(Path segments) {
    String[] parts = segments.getFileName().toString().split("_", 2);
    return parts.length == 1 ? 0 : Long.parseLong(parts[1], Character.MAX_RADIX);
  }
}
