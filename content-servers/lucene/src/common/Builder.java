// Builds shards from files with one JSON object a line.
//
//   build FILE... --out FOLDER [--shards N]    spreads the documents over N shards, FOLDER/part-00000 and so on
//   build --each LIST                          LIST has a line `FILE<tab>SHARD` for each shard to build

package katamari.lucene;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;

final class Builder {
  /** Something that the user has to change. */
  static final class Refused extends Exception {
    private static final long serialVersionUID = 1L;

    Refused(String why) {
      super(why);
    }
  }

  private static final String USAGE =
      "usage: build FILE.ndjson... --out FOLDER [--shards N] | build --each LIST (lines FILE<tab>SHARD)";

  private final ShardWriter.Factory factory;

  Builder(ShardWriter.Factory factory) {
    this.factory = factory;
  }

  /** @param arguments those of the command, after `build` */
  void run(List<String> arguments) throws IOException, Refused {
    List<Path> files = new ArrayList<>();
    Path out = null;
    Path each = null;
    int shards = 1;
    for (int i = 0; i < arguments.size(); i++) {
      String argument = arguments.get(i);
      if (!argument.startsWith("--")) {
        files.add(Path.of(argument));
        continue;
      }
      if (i + 1 == arguments.size()) throw new Refused(USAGE);
      String value = arguments.get(++i);
      if (argument.equals("--out")) out = Path.of(value);
      else if (argument.equals("--each")) each = Path.of(value);
      else if (argument.equals("--shards")) shards = shardsIn(value);
      else throw new Refused("unknown option " + argument + "; " + USAGE);
    }
    if (each != null && files.isEmpty() && out == null) buildEach(each);
    else if (each == null && !files.isEmpty() && out != null) System.out.println(spread(files, out, shards));
    else throw new Refused(USAGE);
  }

  private static int shardsIn(String value) throws Refused {
    if (value.matches("[1-9]\\d{0,3}") && Integer.parseInt(value) <= SearchLimits.SHARDS_MAX)
      return Integer.parseInt(value);
    throw new Refused("--shards is " + value + ", expected 1 to " + SearchLimits.SHARDS_MAX);
  }

  private void buildEach(Path list) throws IOException, Refused {
    for (String line : Files.readAllLines(list)) {
      String[] parts = line.split("\t", -1);
      if (parts.length != 2) throw new Refused(list + ": found \"" + line + "\", expected FILE<tab>SHARD");
      build(List.of(Path.of(parts[0])), List.of(Path.of(parts[1])));
    }
  }

  private String spread(List<Path> files, Path out, int shards) throws IOException, Refused {
    List<Path> folders = new ArrayList<>();
    for (int i = 0; i < shards; i++) folders.add(out.resolve(String.format("part-%05d", i)));
    return build(files, folders) + " documents in " + shards + " shards below " + out;
  }

  /** Writes each shard to a temporary folder, so that there is a whole shard or none. */
  private long build(List<Path> files, List<Path> folders) throws IOException, Refused {
    List<Path> unfinished = new ArrayList<>();
    List<ShardWriter> writers = new ArrayList<>();
    long documents = 0;
    try {
      for (Path folder : folders) {
        if (Files.exists(folder)) throw new Refused(folder + " exists already; remove it or choose another folder");
        Files.createDirectories(folder.toAbsolutePath().getParent());
        Path beside = folder.resolveSibling("." + folder.getFileName() + ".unfinished-" + ProcessHandle.current().pid());
        unfinished.add(beside);
        writers.add(factory.create(beside));
      }
      for (Path file : files) documents = read(file, writers, documents);
      for (ShardWriter writer : writers) writer.finish();
      for (ShardWriter writer : writers) writer.close();
      for (int i = 0; i < folders.size(); i++)
        Files.move(unfinished.get(i), folders.get(i), StandardCopyOption.ATOMIC_MOVE);
      return documents;
    } finally {
      for (ShardWriter writer : writers) writer.close();
      for (Path folder : unfinished) remove(folder);
    }
  }

  private static long read(Path file, List<ShardWriter> writers, long before) throws IOException, Refused {
    long documents = before;
    int number = 0;
    try (BufferedReader lines = Files.newBufferedReader(file)) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        number++;
        if (line.isBlank()) continue;
        if (line.length() > SearchLimits.LINE_BYTES_MAX)
          throw new Refused(file + ":" + number + ": this line has more than " + SearchLimits.LINE_BYTES_MAX + " characters");
        writers.get((int) (documents++ % writers.size())).add(Json.object(line));
      }
      return documents;
    } catch (Json.Wrong error) {
      throw new Refused(file + ":" + number + ": " + error.getMessage());
    } catch (CharacterCodingException error) {
      throw new Refused(file + ":" + (number + 1) + " or later: the text is not UTF-8");
    }
  }

  private static void remove(Path folder) throws IOException {
    if (!Files.exists(folder)) return;
    List<Path> files;
    try (Stream<Path> found = Files.walk(folder)) {
      files = found.sorted(Comparator.reverseOrder()).collect(Collectors.toList());
    }
    for (Path file : files) Files.delete(file);
  }
}
