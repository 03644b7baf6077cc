/** The example of the Java kit: the service that the shop calls. */
namespace java speller

service Speller {
  /** Returns the words with their spelling corrected. */
  string correct(1: string words) (katamari.readonly = "true")
}
