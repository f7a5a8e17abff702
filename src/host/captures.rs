//! Closures that are kept for later and capture the variable of a loop. Rhai has one such variable for all rounds, so all of
//! them would see its last value: the last account of a list would be moved as often as the list is long.

use rhai::{ASTNode, Expr, Stmt, StmtBlock};

use super::check::Source;
use super::diagnostic::Diagnostic;

/// Functions that keep a closure for later; others call it at once.
const KEEPING: [&str; 4] = ["push", "insert", "append", "unshift"];

/// Closures in `source` that are kept and capture a loop's own variable.
pub(super) fn of_loops(source: &Source<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    source.ast.walk(&mut |path: &[ASTNode<'_>]| {
        if let Some((ASTNode::Stmt(Stmt::Share(captured)), above)) = path.split_last()
            && is_kept(above)
        {
            for (variable, _) in captured.iter().filter(|(variable, _)| is_of_loop(&variable.name, above)) {
                let message = format!("a closure that is kept for later captures `{}` of the loop", variable.name);
                let hint = format!(
                    "all of them would see its last value: `let own = {};` inside the loop, and use that",
                    variable.name
                );
                let fault = Diagnostic::new(source.name, Some(source.text), variable.pos, message);
                found.push(fault.hint(Some(hint)));
            }
        }
        true
    });
    found
}

/// Whether the closure is put away: the innermost call or assignment around it decides.
fn is_kept(above: &[ASTNode<'_>]) -> bool {
    for node in above.iter().rev() {
        match node {
            ASTNode::Expr(Expr::MethodCall(call, _) | Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _)) => {
                return KEEPING.contains(&call.name.as_str());
            }
            ASTNode::Stmt(Stmt::Assignment(_)) => return true,
            ASTNode::Stmt(Stmt::For(..) | Stmt::While(..) | Stmt::Do(..) | Stmt::Var(..)) => return false,
            _ => {}
        }
    }
    false
}

/// Whether `name` is a loop's own variable here, and no other one of that name declared inside the loop.
fn is_of_loop(name: &str, above: &[ASTNode<'_>]) -> bool {
    for node in above.iter().rev() {
        match node {
            ASTNode::Stmt(Stmt::For(parts, _)) => {
                let (variable, counter, flow) = &**parts;
                if declares(&flow.body, name) {
                    return false;
                }
                if variable.name == name || counter.as_ref().is_some_and(|counter| counter.name == name) {
                    return true;
                }
            }
            ASTNode::Stmt(Stmt::Block(block)) if declares(block, name) => return false,
            ASTNode::Stmt(Stmt::If(flow, _) | Stmt::While(flow, _) | Stmt::TryCatch(flow, _))
                if declares(&flow.body, name) || declares(&flow.branch, name) =>
            {
                return false;
            }
            _ => {}
        }
    }
    false
}

fn declares(block: &StmtBlock, name: &str) -> bool {
    block.statements().iter().any(|stmt| matches!(stmt, Stmt::Var(parts, ..) if parts.0.name == name))
}
