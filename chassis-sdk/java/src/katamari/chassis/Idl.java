// The text of an interface, a .thrift file and its includes, which `describe` sends to the mesh. Includes are found as
// the Apache compiler finds them: beside the including file, then in the include folders; then beside the main file.
// Only `include` and `service` are parsed here; the mesh parses the rest. It finds the files of the n-th include
// folder by their names, `-In/PATH` (core/idl/source.ts).

package katamari.chassis;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.BiConsumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

final class Idl {
  private static final Pattern TOKEN =
      Pattern.compile("/\\*.*?\\*/|//[^\\n]*|#[^\\n]*|\"[^\"]*\"|'[^']*'|[\\w.]+", Pattern.DOTALL);
  private static final Pattern ROOT = Pattern.compile("-I\\d{1,3}/");
  private static final int FILES_MAX = 100;
  private static final long FILE_BYTES_MAX = 4 * 1024 * 1024;

  private final Path program;
  /** The folder of the main file under "", and the include folders by the prefixes of their files. */
  private final Map<String, Path> folders = new LinkedHashMap<>();
  private final Map<String, String> files = new TreeMap<>();
  private final String main;

  private Idl(String path, List<Path> includes) throws IOException {
    program = programFolder();
    Path found = find(Path.of(path), "IDL file");
    main = found.getFileName().toString();
    folders.put("", found.toAbsolutePath().getParent());
    for (Path folder : includes) folders.put("-I" + folders.size() + "/", find(folder, "include folder"));
  }

  /** @throws IllegalArgumentException for a file that is missing, or has not the service */
  static Idl read(Options options, String service) {
    try {
      Idl idl = new Idl(options.idl, options.includes);
      idl.load(idl.main);
      List<String> services = new ArrayList<>();
      statements(idl.files.get(idl.main), (word, name) -> { if (word.equals("service")) services.add(name); });
      if (services.contains(service)) return idl;
      String known = services.isEmpty() ? "none" : String.join(", ", services);
      throw new IllegalArgumentException(options.idl + " has no service \"" + service + "\"; it has " + known);
    } catch (IOException error) {
      throw new IllegalArgumentException(error.getMessage(), error);
    }
  }

  /** Name of the main file. */
  String main() {
    return main;
  }

  /** Text of every file, by its path relative to the folder of the main file, or `-In/PATH` in an include folder. */
  Map<String, String> files() {
    return files;
  }

  private Path find(Path path, String what) throws IOException {
    if (Files.exists(path)) return path;
    Path beside = program.resolve(path);
    if (Files.exists(beside)) return beside;
    throw new IOException(
        "Cannot read the " + what + " \"" + path + "\": it is neither in " + Path.of("").toAbsolutePath()
            + " nor beside the program in " + program);
  }

  /** Returns the folder of the jar, or of the classes, that the first entry of the class path names. */
  private static Path programFolder() {
    String first = System.getProperty("java.class.path", "").split(java.io.File.pathSeparator, 2)[0];
    Path path = Path.of(first.isEmpty() ? "." : first).toAbsolutePath();
    return Files.isDirectory(path) ? path : path.getParent();
  }

  private void load(String name) throws IOException {
    if (files.size() >= FILES_MAX) throw new IOException("The IDL has more than " + FILES_MAX + " files, the limit");
    Path path = pathOf(name);
    long bytes = Files.size(path);
    if (bytes > FILE_BYTES_MAX)
      throw new IOException("The IDL file " + path + " has " + bytes + " bytes, the limit is " + FILE_BYTES_MAX);
    String text = Files.readString(path);
    files.put(name, text);
    List<String> includes = new ArrayList<>();
    statements(text, (word, wanted) -> { if (word.equals("include")) includes.add(wanted); });
    for (String wanted : includes) include(name, wanted);
  }

  private void include(String from, String wanted) throws IOException {
    String root = rootOf(from);
    Path parent = Path.of(from.substring(root.length())).getParent();
    Path beside = parent == null ? Path.of(wanted) : parent.resolve(wanted);
    String plain = Path.of(wanted).normalize().toString();
    Set<String> candidates = new LinkedHashSet<>(List.of(root + beside.normalize()));
    for (String prefix : folders.keySet()) if (!prefix.isEmpty()) candidates.add(prefix + plain);
    candidates.add(plain);
    for (String name : candidates) {
      if (files.containsKey(name)) return;
      if (!Files.isRegularFile(pathOf(name))) continue;
      load(name);
      return;
    }
    List<String> looked = new ArrayList<>();
    for (String name : candidates) looked.add("\"" + pathOf(name) + "\"");
    throw new IOException(
        pathOf(from) + " includes \"" + wanted + "\", which was not found; looked for "
            + String.join(" and ", looked));
  }

  private String rootOf(String name) {
    Matcher found = ROOT.matcher(name);
    return found.lookingAt() && folders.containsKey(found.group()) ? found.group() : "";
  }

  private Path pathOf(String name) {
    String root = rootOf(name);
    return folders.get(root).resolve(name.substring(root.length()));
  }

  /** Calls `found` with each word `include` and `service` outside of comments and strings, and the token after it. */
  private static void statements(String text, BiConsumer<String, String> found) {
    String before = "";
    Matcher tokens = TOKEN.matcher(text);
    while (tokens.find()) {
      String token = tokens.group();
      if (token.startsWith("/") || token.startsWith("#")) continue;
      boolean isQuoted = token.startsWith("\"") || token.startsWith("'");
      if (before.equals("include") && isQuoted) found.accept(before, token.substring(1, token.length() - 1));
      if (before.equals("service") && !isQuoted) found.accept(before, token);
      before = token;
    }
  }
}
