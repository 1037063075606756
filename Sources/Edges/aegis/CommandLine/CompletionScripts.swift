/// The few lines that make a shell ask `aegis __complete`.
package enum CompletionScripts {
    /// Shells that have one.
    package static let shells = ["bash", "zsh", "fish"]

    /// The script for a shell; nil for an unknown one.
    package static func script(_ shell: String) -> String? {
        switch shell {
        case "bash": bash
        case "zsh": zsh
        case "fish": fish
        default: nil
        }
    }

    // `:files` and `:directories` in the answer stand for the shell's own offers.
    private static let bash = """
        # bash completion for aegis; load it with: source <(aegis completion bash)
        _aegis() {
            local answer
            answer=$(aegis __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return
            case $answer in
                :files) compopt -o default; COMPREPLY=() ;;
                :directories) compopt -o dirnames; COMPREPLY=() ;;
                *) mapfile -t COMPREPLY < <(compgen -W "$answer" -- "${COMP_WORDS[COMP_CWORD]}") ;;
            esac
        }
        complete -F _aegis aegis

        """

    private static let zsh = """
        #compdef aegis
        # zsh completion for aegis; load it with: source <(aegis completion zsh)
        _aegis() {
            local -a answer
            answer=("${(@f)$(aegis __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
            case ${answer[1]} in
                :files) _files ;;
                :directories) _files -/ ;;
                *) compadd -- "${answer[@]}" ;;
            esac
        }
        compdef _aegis aegis

        """

    private static let fish = """
        # fish completion for aegis; load it with: aegis completion fish | source
        function __aegis_complete
            set -l answer (aegis __complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)
            switch "$answer[1]"
                case :files
                    __fish_complete_path (commandline -ct)
                case :directories
                    __fish_complete_directories (commandline -ct)
                case '*'
                    printf '%s\\n' $answer
            end
        end
        complete -c aegis -f -a '(__aegis_complete)'

        """
}
